"""One file for each rule that combines the updates of sites."""
