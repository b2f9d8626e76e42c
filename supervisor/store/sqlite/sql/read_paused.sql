SELECT queue FROM lane WHERE paused
