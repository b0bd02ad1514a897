package gpio

import (
	"bytes"
	"slices"

	toml "github.com/pelletier/go-toml/v2"
)

// Preset describes a known board: its parts, and how the system identifies it.
type Preset struct {
	Name  string // the value of [gpio] preset
	Title string // the product name
	// Config contains its buttons and LEDs.
	Config Config
	// Cards are the IDs of its sound card in /proc/asound/cards; the first is a suitable value of
	// [audio] input and output.
	Cards []string
	// HAT is a part of the product string in its EEPROM, and HATProduct its product ID, if it has
	// one.
	HAT        string
	HATProduct uint16
	// I2C are the addresses on bus 1 of chips that have a kernel driver.
	I2C []uint16
	// Note is a hint for its owner.
	Note string
}

// TOML returns the lines of lintod.toml that are equivalent to the preset.
func (p Preset) TOML() string {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	// Marshalling these types cannot fail.
	if err := enc.Encode(struct {
		Buttons []ButtonConfig `toml:"button,omitempty"`
		LEDs    []LEDConfig    `toml:"led,omitempty"`
	}{p.Config.Buttons, p.Config.LEDs}); err != nil {
		return "# " + err.Error() + "\n"
	}
	return b.String()
}

// simulatedPreset is the board of [gpio] simulate = true if no other is configured.
const simulatedPreset = "simulated"

// Presets lists the known boards. Pins are from the vendors' programs and manuals, cited at each
// board; unconfirmed ones are marked. None has been tested on the board itself.
func Presets() []Preset {
	talk := func(pin Pin) ButtonConfig { return ButtonConfig{Pin: pin, Name: "talk", Action: "talk"} }
	ring := LEDConfig{Kind: "apa102", Port: "SPI0.0", Count: 12, PowerPin: "GPIO5"}
	return []Preset{
		{
			Name: "pi", Title: "bare Raspberry Pi: a button between header positions 11 and 9, an LED with a resistor between 13 and 14",
			Config: Config{
				Buttons: []ButtonConfig{talk("P1_11")},
				LEDs:    []LEDConfig{{Kind: "gpio", Pin: "P1_13"}},
			},
			Note: "our own choice of pins; set [[button]] and [[led]] for yours",
		},
		{
			// respeaker/mic_hat: interfaces/button.py (17, low when pressed),
			// interfaces/pixels.py (3 APA102).
			Name: "respeaker-2mic", Title: "Seeed ReSpeaker 2-Mics Pi HAT",
			Config: Config{
				Buttons: []ButtonConfig{talk("GPIO17")},
				LEDs:    []LEDConfig{{Kind: "apa102", Port: "SPI0.0", Count: 3}},
			},
			Cards: []string{"seeed2micvoicec"},
			I2C:   []uint16{0x1a},
			Note:  "needs SPI: dtparam=spi=on in config.txt",
		},
		{
			// respeaker/4mics_hat: interfaces/pixels.py (12 APA102, power on GPIO5 high).
			Name: "respeaker-4mic", Title: "Seeed ReSpeaker 4-Mic Array",
			Config: Config{LEDs: []LEDConfig{ring}},
			Cards:  []string{"seeed4micvoicec"},
			I2C:    []uint16{0x3b},
			Note:   "has no button; needs SPI: dtparam=spi=on in config.txt",
		},
		{
			// pinout.xyz, "ReSpeaker 6 Mic Array" (12 APA102, enable on position
			// 29). The button on GPIO26 is not confirmed by a document of the vendor.
			Name: "respeaker-6mic", Title: "Seeed ReSpeaker 6-Mic Circular Array",
			Config: Config{Buttons: []ButtonConfig{talk("GPIO26")}, LEDs: []LEDConfig{ring}},
			Cards:  []string{"seeed8micvoicec"},
			I2C:    []uint16{0x3b, 0x35},
			Note:   "the button's pin is not confirmed; needs SPI: dtparam=spi=on in config.txt",
		},
		{
			// Adafruit's guide of the Voice Bonnet: DotStar data on D5, clock on
			// D6, three of them; button on D17.
			Name: "voice-bonnet", Title: "Adafruit Voice Bonnet",
			Config: Config{
				Buttons: []ButtonConfig{talk("GPIO17")},
				LEDs:    []LEDConfig{{Kind: "apa102", Data: "GPIO5", Clock: "GPIO6", Count: 3}},
			},
			Cards: []string{"seeed2micvoicec"},
			I2C:   []uint16{0x1a},
			Note:  "has the sound card of the ReSpeaker 2-Mic: the two cannot be distinguished automatically",
		},
		{
			// google/aiyprojects-raspbian: src/aiy/board.py (button 23 with pull-up,
			// LED 25), docs/voice.md, src/aiy/_drivers/_hat.py (product 1).
			Name: "aiy-voice", Title: "Google AIY Voice HAT",
			Config: Config{
				Buttons: []ButtonConfig{talk("GPIO23")},
				LEDs:    []LEDConfig{{Kind: "gpio", Pin: "GPIO25"}},
			},
			Cards: []string{"sndrpigooglevoi"},
			HAT:   "AIY", HATProduct: 1,
		},
		{
			// google/aiyprojects-raspbian: docs/voice.md (button 23), src/aiy/leds.py
			// (the LED hangs on a KTD202x chip on I²C), _drivers/_hat.py (product 3).
			Name: "aiy-voice-bonnet", Title: "Google AIY Voice Bonnet",
			Config: Config{Buttons: []ButtonConfig{talk("GPIO23")}},
			Cards:  []string{"aiyvoicebonnet"},
			HAT:    "AIY", HATProduct: 3,
			Note: "its LED is a chip on I²C that lintod does not drive",
		},
		{
			Name: simulatedPreset, Title: "the board in the terminal",
			Config: Config{
				Buttons: []ButtonConfig{
					talk("SIM1"),
					{Pin: "SIM2", Name: "mute", Action: "mute"},
					{Pin: "SIM3", Name: "stop", Action: "stop"},
					{Pin: "SIM4", Name: "meeting", Action: "meeting"},
					{Pin: "SIM5", Name: "volume up", Action: "volume_up"},
					{Pin: "SIM6", Name: "volume down", Action: "volume_down"},
				},
				LEDs: []LEDConfig{{Kind: "apa102", Port: "SPI0.0", Count: 12}},
			},
			Note: "for [gpio] simulate = true",
		},
	}
}

// FindPreset returns the preset with this name.
func FindPreset(name string) (Preset, bool) {
	all := Presets()
	i := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		return Preset{}, false
	}
	return all[i], true
}

func presetNames() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}
