// Package link is what links have in common: how each says how it is. The links
// themselves are the packages below, one for each protocol.
//
// What must not live here: anything that one protocol needs.
package link

// Status is how a link is, whatever its protocol.
type Status struct {
	Connected bool   `json:"connected"`
	Line      string `json:"line,omitempty"` // the same for people, and why not
	// Failed says that the last attempt to connect has failed; a link that neither
	// is connected nor has failed is connecting.
	Failed bool `json:"failed,omitempty"`
	// Refused says that the platform was reached and does not let the device in
	// until somebody acts, there or in the configuration.
	Refused bool `json:"refused,omitempty"`
	// Transcript is what the platform has understood last of a live transcription.
	Transcript string `json:"transcript,omitempty"`
}
