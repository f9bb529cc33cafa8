"""`python -m scheduler.usage`."""

import sys

from scheduler.usage.main import main

sys.exit(main())
