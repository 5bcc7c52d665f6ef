"""``python -m slmcompile``."""

from slmcompile.cli.main import main

raise SystemExit(main())
