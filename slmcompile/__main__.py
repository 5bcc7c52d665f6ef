"""``python -m slmcompile``."""

from slmcompile.cli import main

raise SystemExit(main())
