"""`python -m nerv`: the `nerv` command."""

from nerv.cli import main

if __name__ == "__main__":
    main()
