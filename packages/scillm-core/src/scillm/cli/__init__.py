"""The command line: `scillm <command>`; commands are entry points, imported when called."""
