// Package metrics provides the statistics of a [presence.Server] as Prometheus metrics. All names
// begin with presence_. The labels have closed lists of values: no metric has the name of a room or
// a user, so the number of time series is fixed.
//
//	m := metrics.New()
//	server, err := presence.New(presence.Config{
//		Authenticator: authenticator,
//		Observer:      m.Observer(),
//	})
//	if err != nil {
//		return err
//	}
//	m.Watch(server)
//	prometheus.MustRegister(m)
//
// docs/operations.md lists the metrics, and how an operator responds to each.
package metrics
