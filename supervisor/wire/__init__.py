"""What goes between processes: the public protocol of clients, and the private links of the daemon."""
