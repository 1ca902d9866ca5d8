"""ComBat: the shared half, a site's own half, and what is kept of a fit."""
