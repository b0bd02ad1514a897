package linto

import "lintod/agent/link"

// Setup returns the questions of `lintod setup` for this link.
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
		// The stock broker's ACL requires the serial as the user name (protocol 1.2.1).
		Questions: append(questions, link.AccountQuestions()...),
	}
}
