package layer

// pending returns what can be said of this layer only on a stack.
func (l *layout) pending() []byte { return nil }
