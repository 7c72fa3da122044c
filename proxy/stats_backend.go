package proxy

// retireBackend forgets the series of a backend of kind http that is gone, those
// of its targets aside. Exchanges still under way count into nothing, but for a
// retry or a hedge, which make theirs anew.
func (s *stats) retireBackend(b *httpBackend) {
	for _, name := range []string{attemptName(b.name), queueName(b.name), hedgesName(b.name, "won"), hedgesName(b.name, "lost"), shedName(b.name, "max_connections")} {
		s.set.UnregisterMetric(name)
	}
	for _, reason := range sheds {
		s.set.UnregisterMetric(shedName(b.name, reason))
	}
	for _, reason := range b.spec.Retry.On {
		s.set.UnregisterMetric(retriesName(b.name, reason))
	}
}
