// A Whisper node, mail client and mail server of status-go's code, obeying commands.
package main

import (
	"crypto/ecdsa"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/status-im/status-go/mailserver"
	"github.com/status-im/status-go/params"
	"github.com/status-im/status-go/whisper/v6"

	"restante.invalid/harness"
)

type peer struct {
	harness.Node
	shh      *whisper.Whisper
	key      *ecdsa.PrivateKey
	archived atomic.Uint64
	archive  *mailserver.WhisperMailServer // none if this is no mail server
}

// Archive is called by shh for every envelope that passed its rules for the first time.
func (p *peer) Archive(envelope *whisper.Envelope) {
	p.archived.Add(1)
	if p.archive != nil {
		p.archive.Archive(envelope)
	}
	if !p.Quiet {
		raw, _ := rlp.EncodeToBytes(envelope)
		harness.Emit("envelope", harness.Fields{
			"hash": harness.Hex(envelope.Hash().Bytes()), "raw": harness.Hex(raw),
		})
	}
}

func (p *peer) DeliverMail(from []byte, request *whisper.Envelope) {
	if p.archive != nil {
		p.archive.DeliverMail(from, request)
	}
}

func (p *peer) Deliver(from []byte, request whisper.MessagesRequest) {
	if p.archive != nil {
		p.archive.Deliver(from, request)
	}
}

func (p *peer) SyncMail(from []byte, request whisper.SyncMailRequest) error {
	if p.archive == nil {
		return fmt.Errorf("not a mail server")
	}
	return p.archive.SyncMail(from, request)
}

type options struct {
	listen, key, archive, password, private string
	pow                                     float64
	rateS                                   int
	light, quiet, unconfirmed               bool
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "host:port")
	flag.StringVar(&o.key, "key", "", "node key, 64 hex digits; a new one if empty")
	flag.Float64Var(&o.pow, "pow", 0.001, "least proof of work")
	flag.StringVar(&o.archive, "archive", "", "folder of the mail server; none if empty")
	flag.StringVar(&o.password, "password", "status-offline-inbox", "of the mail server")
	flag.StringVar(&o.private, "private", "", "private key that opens requests, too")
	flag.IntVar(&o.rateS, "rate-s", 0, "least seconds between a peer's requests")
	flag.BoolVar(&o.light, "light", false, "be a light client")
	flag.BoolVar(&o.unconfirmed, "unconfirmed", false, "do not confirm packets")
	flag.BoolVar(&o.quiet, "quiet", false, "show no packets and no envelopes")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o options) error {
	key, err := crypto.GenerateKey()
	if o.key != "" {
		key, err = crypto.HexToECDSA(o.key)
	}
	if err != nil {
		return err
	}
	p := &peer{key: key}
	p.Quiet = o.quiet
	p.shh = whisper.New(&whisper.Config{
		MaxMessageSize:                        whisper.DefaultMaxMessageSize,
		MinimumAcceptedPOW:                    o.pow,
		RestrictConnectionBetweenLightClients: true,
		DisableConfirmations:                  o.unconfirmed,
	})
	p.shh.SetLightClientMode(o.light)
	if o.archive != "" {
		p.archive = &mailserver.WhisperMailServer{}
		if err := p.archive.Init(p.shh, &params.WhisperConfig{
			DataDir:             o.archive,
			MinimumPoW:          o.pow,
			MailServerPassword:  o.password,
			MailServerAsymKey:   o.private,
			MailServerRateLimit: o.rateS,
		}); err != nil {
			return err
		}
		defer p.archive.Close()
	}
	p.shh.RegisterMailServer(p)
	events := make(chan whisper.EnvelopeEvent, 10_000)
	p.shh.SubscribeEnvelopeEvents(events)
	go tell(events)
	if err := p.shh.Start(nil); err != nil {
		return err
	}
	if err := p.Start(key, "Statusd-harness/v0.49.0", o.listen, p.shh.Protocols()); err != nil {
		return err
	}
	commands := p.Commands()
	commands["trust"] = harness.With(p.trust)
	commands["set-pow"] = harness.With(p.setPow)
	commands["set-bloom"] = harness.With(p.setBloom)
	commands["subscribe"] = harness.With(p.subscribe)
	commands["post"] = harness.With(p.post)
	commands["post-raw"] = harness.With(p.postRaw)
	commands["request"] = harness.With(p.request)
	commands["request-plain"] = harness.With(p.requestPlain)
	commands["sync"] = harness.With(p.sync)
	commands["stats"] = harness.With(p.stats)
	p.Ready()
	harness.Serve(commands)
	return nil
}

// tell shows what shh makes of mail servers' answers and of confirmations.
func tell(events <-chan whisper.EnvelopeEvent) {
	for event := range events {
		fields := harness.Fields{"what": event.Event, "hash": harness.Hex(event.Hash.Bytes())}
		switch data := event.Data.(type) {
		case *whisper.MailServerResponse:
			fields["last"] = harness.Hex(data.LastEnvelopeHash.Bytes())
			fields["cursor"] = harness.Hex(data.Cursor)
			if data.Error != nil {
				fields["error"] = data.Error.Error()
			}
		case whisper.SyncEventResponse:
			fields["cursor"] = harness.Hex(data.Cursor)
			fields["error"] = data.Error
		case []whisper.EnvelopeError:
			fields["errors"] = data
		}
		switch event.Event {
		case whisper.EventMailServerRequestCompleted, whisper.EventMailServerRequestExpired,
			whisper.EventMailServerSyncFinished:
			harness.Emit("mail", fields)
		case whisper.EventBatchAcknowledged:
			harness.Emit("acknowledged", fields)
		}
	}
}

func (p *peer) trust(a struct{ Peer harness.Hex }) (harness.Fields, error) {
	id := harness.PeerID(a.Peer)
	return nil, p.shh.AllowP2PMessagesFromPeer(id[:])
}

func (p *peer) setPow(a struct{ Pow float64 }) (harness.Fields, error) {
	return nil, p.shh.SetMinimumPoW(a.Pow)
}

func (p *peer) setBloom(a struct{ Bloom harness.Hex }) (harness.Fields, error) {
	return nil, p.shh.SetBloomFilter(a.Bloom)
}

func (p *peer) stats(struct{}) (harness.Fields, error) {
	return harness.Fields{"pool": len(p.shh.Envelopes()), "archived": p.archived.Load()}, nil
}

// secret says how a message is encrypted: by a password, a key of 32 bytes, or to a public key.
type secret struct {
	Password string
	Key      harness.Hex
	Public   harness.Hex
}

func (p *peer) symmetric(s secret) ([]byte, error) {
	if s.Password == "" {
		return s.Key, nil
	}
	id, err := p.shh.AddSymKeyFromPassword(s.Password)
	if err != nil {
		return nil, err
	}
	return p.shh.GetSymKey(id)
}

// subscribe opens what comes on these topics (all, if none): events "message".
func (p *peer) subscribe(a struct {
	secret
	Private harness.Hex
	Topics  []harness.Hex
	Direct  bool // takes what a trusted mail server sends, too
}) (harness.Fields, error) {
	filter := &whisper.Filter{AllowP2P: a.Direct, Messages: shown{}}
	for _, topic := range a.Topics {
		filter.Topics = append(filter.Topics, topic)
	}
	var err error
	if len(a.Private) > 0 {
		filter.KeyAsym, err = crypto.ToECDSA(a.Private)
	} else {
		filter.KeySym, err = p.symmetric(a.secret)
	}
	if err == nil {
		_, err = p.shh.Subscribe(filter)
	}
	return nil, err
}

// shown is a message store that shows a message instead of keeping it.
type shown struct{}

func (shown) Add(message *whisper.ReceivedMessage) error {
	fields := harness.Fields{
		"hash":    harness.Hex(message.EnvelopeHash.Bytes()),
		"topic":   harness.Hex(message.Topic[:]),
		"payload": harness.Hex(message.Payload),
		"sent_s":  message.Sent,
	}
	if message.Src != nil {
		fields["signer"] = harness.Hex(crypto.FromECDSAPub(message.Src)[1:])
	}
	harness.Emit("message", fields)
	return nil
}

func (shown) Pop() ([]*whisper.ReceivedMessage, error) { return nil, nil }

type message struct {
	secret
	Topic    harness.Hex
	Payload  harness.Hex
	TTL      uint32
	Pow      float64
	Unsigned bool
	WorkS    uint32 `json:"work_s"`
}

func (p *peer) seal(m message) (*whisper.Envelope, harness.Fields, error) {
	params := &whisper.MessageParams{
		TTL: m.TTL, Topic: whisper.BytesToTopic(m.Topic), Payload: m.Payload,
		PoW: m.Pow, WorkTime: max(m.WorkS, 5),
	}
	if !m.Unsigned {
		params.Src = p.key
	}
	var err error
	if len(m.Public) > 0 {
		params.Dst, err = crypto.UnmarshalPubkey(append([]byte{4}, m.Public...))
	} else {
		params.KeySym, err = p.symmetric(m.secret)
	}
	if err != nil {
		return nil, nil, err
	}
	sent, err := whisper.NewSentMessage(params)
	if err != nil {
		return nil, nil, err
	}
	envelope, err := sent.Wrap(params, time.Now())
	if err != nil {
		return nil, nil, err
	}
	raw, err := rlp.EncodeToBytes(envelope)
	return envelope, harness.Fields{
		"hash": harness.Hex(envelope.Hash().Bytes()), "raw": harness.Hex(raw),
	}, err
}

func (p *peer) post(m message) (harness.Fields, error) {
	envelope, fields, err := p.seal(m)
	if err == nil {
		err = p.shh.Send(envelope)
	}
	return fields, err
}

func (p *peer) postRaw(a struct{ Raws []harness.Hex }) (harness.Fields, error) {
	for _, raw := range a.Raws {
		var envelope whisper.Envelope
		if err := rlp.DecodeBytes(raw, &envelope); err != nil {
			return nil, err
		}
		if err := p.shh.Send(&envelope); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// query is what a mail request says, in status-go's own types.
type query struct {
	Lower, Upper uint32
	Bloom        harness.Hex
	Topics       []harness.Hex
	Limit        uint32
	Cursor       harness.Hex
	Batch        bool
}

// request asks a mail server by an envelope: with the payload that is given or, if there is none,
// with status-go's own of seven items.
func (p *peer) request(a struct {
	message
	query
	Peer      harness.Hex
	TimeoutMs int `json:"timeout_ms"`
}) (harness.Fields, error) {
	if len(a.Payload) == 0 {
		own := mailserver.MessagesRequestPayload{
			Lower: a.Lower, Upper: a.Upper, Bloom: a.Bloom,
			Limit: a.Limit, Cursor: a.Cursor, Batch: a.Batch,
		}
		for _, topic := range a.Topics {
			own.Topics = append(own.Topics, topic)
		}
		var err error
		if a.Payload, err = rlp.EncodeToBytes(own); err != nil {
			return nil, err
		}
	}
	envelope, fields, err := p.seal(a.message)
	if err == nil {
		id := harness.PeerID(a.Peer)
		wait := time.Duration(a.TimeoutMs) * time.Millisecond
		err = p.shh.RequestHistoricMessagesWithTimeout(id[:], envelope, wait)
	}
	return fields, err
}

// requestPlain asks by status-go's newest form: a list, in no envelope.
func (p *peer) requestPlain(a struct {
	query
	ID   harness.Hex `json:"request"`
	Peer harness.Hex
}) (harness.Fields, error) {
	id := harness.PeerID(a.Peer)
	return nil, p.shh.SendMessagesRequest(id[:], whisper.MessagesRequest{
		ID: a.ID, From: a.Lower, To: a.Upper, Limit: a.Limit, Cursor: a.Cursor, Bloom: a.Bloom,
	})
}

// sync asks as one mail server asks another.
func (p *peer) sync(a struct {
	query
	Peer harness.Hex
}) (harness.Fields, error) {
	id := harness.PeerID(a.Peer)
	return nil, p.shh.SyncMessages(id[:], whisper.SyncMailRequest{
		Lower: a.Lower, Upper: a.Upper, Bloom: a.Bloom, Limit: a.Limit, Cursor: a.Cursor,
	})
}
