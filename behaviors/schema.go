package behaviors

// Schema describes the verb's arguments as a JSON Schema, in the parts of the language
// that all its drafts have in common. It encodes with encoding/json.
func (v Verb) Schema() map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, p := range v.Params {
		properties[p.Name] = p.schema()
		if p.Required {
			required = append(required, p.Name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required}
}

func (p Param) schema() map[string]any {
	s := map[string]any{"type": string(p.Kind), "description": p.About}
	switch p.Kind {
	case OneOf:
		s["type"], s["enum"] = "string", p.Values
	case Text:
		s["maxLength"] = p.Max // characters there, bytes here: what is longer is refused by its name
	case Whole, Number:
		s["minimum"], s["maximum"] = p.Min, p.Max
	}
	return s
}
