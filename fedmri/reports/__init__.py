"""What a run showed: scores with intervals, tables, and one page that can be handed on."""
