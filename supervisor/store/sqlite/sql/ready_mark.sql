SELECT mark FROM ready WHERE lane = ? AND band = ? AND pos = ? AND id = ?
