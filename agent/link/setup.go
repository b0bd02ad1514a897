package link

import "strings"

// Setup is what `lintod setup` asks the owner of a device for a link. It is data:
// setup asks, writes the answers into the link's table of the sample configuration,
// has them validated as the daemon does, and connects with them.
type Setup struct {
	Name      string // of the link, and of its table
	Title     string // what people call the platform
	Questions []Question
	// Beside says that the link is used beside that of a platform: setup offers it where it finds
	// a broker, or takes it from flags.
	Beside bool
	// Import reads the configuration of an older client of the platform; nil where
	// there is none.
	Import func(raw []byte) (Imported, error)
}

// Question is about one key of the link's table. The sample configuration must show
// that key, as a comment or not. What Validate reports of the key makes setup ask again.
type Question struct {
	Key  string // within the table
	Text string // the question, without a colon
	// Preset returns the answer that an empty line gives; nil when there is none.
	Preset func(serial string) string
	// Complete adds what people leave out of an answer; nil when nothing is.
	Complete func(answer string) string
	// Optional lets the answer "-" leave the key out, and with it all that need it.
	Optional bool
	// Needs is the key without whose answer this one is not asked; "" for none.
	Needs string
	// Secret answers are not shown. They go into a file of their own, which Key then
	// names. A link has at most one.
	Secret bool
	// Flag of `lintod setup` gives the answer; of a secret, the file that has it in its
	// first line. Links may share a flag when it means the same to each.
	Flag string
	// Usage describes the flag, with the name of its value in back quotes.
	Usage string
}

// BrokerQuestion asks for the broker of a platform.
func BrokerQuestion() Question {
	return Question{
		Key: "broker", Text: "Broker, such as mqtt://192.168.1.2 or mqtts://broker.example", Complete: withScheme,
		Flag: "broker", Usage: "`ADDRESS` of the platform's broker",
	}
}

// AccountQuestions ask for the account at the broker. The user is the serial unless the owner
// says otherwise, as the usual access rules of a broker want it.
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

// withScheme completes what people leave out of an address.
func withScheme(address string) string {
	if address != "" && !strings.Contains(address, "://") {
		return "mqtt://" + address
	}
	return address
}

// Imported is what the configuration of an older client says.
type Imported struct {
	// Answers are values by the keys of our configuration: "device.serial".
	Answers map[string]string
	// Secret is the answer to the question that is one.
	Secret string
	// Notes are clauses on what was not taken over.
	Notes []string
}
