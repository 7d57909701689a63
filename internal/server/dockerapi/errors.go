package dockerapi

import (
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types/common"

	"lade/internal/errdefs"
)

// statusClientLeft is the status that is logged when the client did not wait
// for the answer. Nobody reads it.
const statusClientLeft = 499

// statusOf returns the HTTP status for err's class.
func statusOf(err error) int {
	switch errdefs.ClassOf(err) {
	case errdefs.NotFound:
		return http.StatusNotFound
	case errdefs.Invalid:
		return http.StatusBadRequest
	case errdefs.Conflict:
		return http.StatusConflict
	case errdefs.Denied:
		return http.StatusForbidden
	case errdefs.Unauthorized:
		return http.StatusUnauthorized
	case errdefs.Unavailable:
		return http.StatusServiceUnavailable
	case errdefs.Exhausted:
		return http.StatusInsufficientStorage
	case errdefs.NotImplemented:
		return http.StatusNotImplemented
	case errdefs.NotModified:
		return http.StatusNotModified
	case errdefs.Cancelled:
		return statusClientLeft
	case errdefs.Internal, errdefs.DataLoss:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// writeError answers with err in Docker's form.
func writeError(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if status == http.StatusNotModified { // may not carry a body
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, common.ErrorResponse{Message: errdefs.Message(err)})
}

// writeJSON answers with v. An error in writing means that the client left,
// and is its own business.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}
