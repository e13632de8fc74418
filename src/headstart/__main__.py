"""``python -m headstart``: the command line."""

from headstart.cli.main import command

if __name__ == "__main__":
    command()
