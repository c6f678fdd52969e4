package gate

import "time"

const soon = 15 * time.Second
