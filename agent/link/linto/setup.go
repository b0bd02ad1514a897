package linto

import "lintod/agent/link"

// Setup is what the owner of a device is asked for this link.
func Setup() link.Setup {
	questions := []link.Question{
		link.BrokerQuestion(),
		{
			Key: "scope", Text: "Scope, the application's name in topics", Preset: func(string) string { return Defaults().Scope },
			Flag: "scope", Usage: "`NAME` of the application, the first level of its topics",
		},
	}
	return link.Setup{
		Name: Name, Title: "LinTO", Import: importLegacy,
		// The stock broker's ACL wants the user name to be the serial (protocol 1.2.1).
		Questions: append(questions, link.AccountQuestions()...),
	}
}
