UPDATE lane SET paused = ?2 WHERE queue = ?1
