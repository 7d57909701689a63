package dockerapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Server returns an HTTP server for h whose requests end with ctx: those that
// a client holds open, such as followed logs, would outlast a shutdown.
func Server(ctx context.Context, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    256 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
