"""What ships ready to use as handlers. Runs in workers and imports nothing of ours but the job."""
