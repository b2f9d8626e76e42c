UPDATE lease SET jobs = ?2 WHERE token = ?1
