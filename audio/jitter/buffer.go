// Package jitter makes steady sound of Opus packets that a network delivers late,
// twice, in another order, or not at all.
//
// What must not live here: the network, encryption, and the decoder, which is in the
// sound process (audio/native).
package jitter
