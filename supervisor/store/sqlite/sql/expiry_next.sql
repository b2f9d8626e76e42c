SELECT min(at) FROM expiry
