"""The command line: one small file a command, each a thin shell over the library."""
