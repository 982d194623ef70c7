"""The command-line programs, one thin module per command."""
