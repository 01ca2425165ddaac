"""`python -m procorefs.cli`: the same as `procorefs`."""

from procorefs.cli.main import main

main()
