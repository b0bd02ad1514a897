package linto

import "context"

// StatusChanged has the platform learn how the device is, if that has changed. It does
// not block: changes in quick succession are told as one, and none while the platform
// cannot be reached, as each connect tells the status too.
func (l *Link) StatusChanged() { signal(l.changed) }

// follow publishes the status when it has changed, until ctx ends.
func (l *Link) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
			limited, cancel := context.WithTimeout(ctx, sendLimit)
			if err := l.publishStatus(limited); err != nil {
				l.Log.Debug("status not published", "error", err)
			}
			cancel()
		}
	}
}
