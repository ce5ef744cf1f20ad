"""`python -m pyprof_agent`: the same as the command `pyprof-agent`."""

import sys

from pyprof_agent.cli import main

sys.exit(main())
