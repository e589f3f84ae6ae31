"""What every self-contained HTML page shares."""
