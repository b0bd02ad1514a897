package link

import "strings"

// Setup describes what `lintod setup` asks the owner of a device for a link. It is
// data: setup asks the questions, writes the answers into the link's table of the
// sample configuration, validates them as the daemon does, and connects with them.
type Setup struct {
	Name      string // of the link and its table
	Title     string // name of the platform for people
	Questions []Question
	// Additional means that the link is used in addition to a platform's: setup offers it
	// if it finds a broker, or if flags ask for it.
	Additional bool
	// Import reads the configuration of an older client of the platform; nil if
	// there is none.
	Import func(raw []byte) (Imported, error)
}

// Question asks for one key of the link's table. The sample configuration must
// contain that key, commented out or not. If Validate reports a problem of the key,
// setup asks again.
type Question struct {
	Key  string // within the table
	Text string // the question, without a colon
	// Preset returns the answer for an empty line; nil if there is none.
	Preset func(serial string) string
	// Complete adds what people often omit from an answer; nil if nothing is added.
	Complete func(answer string) string
	// Optional means that the answer "-" omits the key, and all keys that need it.
	Optional bool
	// Needs is the key that must have an answer before this one is asked; "" for
	// none.
	Needs string
	// Secret answers are not shown. They are written to a file of their own, and Key
	// is its path. A link has at most one.
	Secret bool
	// Flag is the flag of `lintod setup` that gives the answer; for a secret, the file
	// that contains it in its first line. Links may share a flag if it has the same
	// meaning.
	Flag string
	// Usage describes the flag, with the name of its value in backquotes.
	Usage string
}

// BrokerQuestion asks for the broker of a platform.
func BrokerQuestion() Question {
	return Question{
		Key: "broker", Text: "Broker, such as mqtt://192.168.1.2 or mqtts://broker.example", Complete: withScheme,
		Flag: "broker", Usage: "`ADDRESS` of the platform's broker",
	}
}

// AccountQuestions ask for the account on the broker. The default user name is the
// serial, which the access rules of brokers usually expect.
func AccountQuestions() []Question {
	return []Question{
		{
			Key: "username", Text: "User name at the broker (- for none)", Preset: func(serial string) string { return serial }, Optional: true,
			Flag: "username", Usage: "`NAME` of the account at the broker",
		},
		{
			Key: "password_file", Text: "Password (not shown)", Needs: "username", Secret: true,
			Flag: "password-file", Usage: "`FILE` with the password of the account",
		},
	}
}

// withScheme adds the scheme that people often omit.
func withScheme(address string) string {
	if address != "" && !strings.Contains(address, "://") {
		return "mqtt://" + address
	}
	return address
}

// Imported is the result of reading the configuration of an older client.
type Imported struct {
	// Answers are values by the keys of our configuration: "device.serial".
	Answers map[string]string
	// Secret is the answer to the question that is secret.
	Secret string
	// Notes are clauses that describe what was not imported.
	Notes []string
}
