"""`python -m featurepipe`."""

from featurepipe.cli import main

raise SystemExit(main())
