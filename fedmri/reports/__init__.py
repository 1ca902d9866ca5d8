"""Records of a run in; tables, intervals, figures and one self-contained page out."""
