SELECT id, host, boot, epoch, slot, incarnation, pool, directory, pid, start_time, read_sequence, read_offset FROM owner ORDER BY id
