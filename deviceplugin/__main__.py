"""`python -m deviceplugin`."""

import sys

from deviceplugin.main import main

sys.exit(main())
