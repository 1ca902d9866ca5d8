"""The commands of server and client: parse, load, call, report."""
