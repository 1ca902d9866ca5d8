"""What a harmonization is worth: sites told apart, errors at new sites."""
