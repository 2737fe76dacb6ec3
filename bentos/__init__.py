"""Services that approved rankers are packaged with."""
