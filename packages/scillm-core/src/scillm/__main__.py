"""`python -m scillm` is the console script."""

from scillm.cli.entry import main

if __name__ == "__main__":
    main()
