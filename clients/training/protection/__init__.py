"""What a site protects its patients with while it trains: noise, masks and secure sums."""
