SELECT count(*) FROM told_edge WHERE child = ? AND NOT done
