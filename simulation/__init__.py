"""The server and every site on one machine."""
