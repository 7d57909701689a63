// Package dockerapi serves the Docker Engine API, and Lade's own endpoints
// under /lade/, over HTTP.
//
// It translates and does nothing else: a request becomes one call of a
// service, the outcome becomes a response. What it needs of the services is
// written down in services.go; New puts a handler over them.
//
// A request passes these stations:
//
//   - Handler.ServeHTTP names the server in the headers, notes the request
//     among those in flight, and turns a panic into an error;
//   - the API version in the path is compared with [MinVersion] and
//     [MaxVersion] (a path without one means the newest);
//   - the route is looked up in one table (routes.go);
//   - the route's function decodes path, query and body, all of bounded size,
//     calls the service, and writes the answer;
//   - an error becomes Docker's {"message": …} with the status of its class.
//
// Attach and exec leave HTTP: the connection is handed to the service as a
// file (hijack.go), which passes it on to the container's shim. From then on
// the engine is no party to that session, and its death does not end it.
package dockerapi
