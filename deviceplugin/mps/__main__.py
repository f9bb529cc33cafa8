"""`python -m deviceplugin.mps`."""

import sys

from deviceplugin.mps.main import main

sys.exit(main())
