package executor

// Crash ends what d does on its own, and leaves all that it has made.
func (d *Docker) Crash() {
	d.warm.mu.Lock()
	clear(d.warm.slots)
	d.warm.mu.Unlock()
	d.warm.end()
}
