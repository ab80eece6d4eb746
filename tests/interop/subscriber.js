// Subscribes to /queue/graphite of an agent, and prints each line that it gets. As subscriber.rb, where the
// arguments are explained.
//
//   node subscriber.js HOST PORT VERSION ACK WHAT COUNT [SECONDS]
const fs = require('fs');
const stompit = require('stompit');
const place = require('./place.js');

const QUEUE = '/queue/graphite';
const [host, port, version, ack, what, count, seconds] = process.argv.slice(2);
const fail = (error) => {
  console.error(error);
  process.exit(1);
};

const connectHeaders = {
  host,
  'accept-version': version,
  'heart-beat': what === 'beats' ? '1000,1000' : '0,0',
};
// On a busy machine what is late is not missing.
const heartbeatDelayMargin = 9000;
stompit.connect({ ...place(host, port), connectHeaders, heartbeatDelayMargin }, (error, client) => {
  if (error) fail(error);
  client.on('error', fail);
  let messages = 0;
  let lines = 0;
  client.subscribe({ destination: QUEUE, ack }, (error, message) => {
    if (error) fail(error);
    message.readString('utf-8', (error, body) => {
      if (error) fail(error);
      const again = message.headers.redelivered === 'true';
      const got = body.split('\n');
      for (const line of got) fs.writeSync(1, `${again ? 'again' : 'new'} ${line}\n`);
      if (what === 'refuse' && !again) {
        client.nack(message);
        return;
      }
      messages += 1;
      lines += got.length;
      const isEnough = lines >= Number(count);
      if (what === 'leave') {
        if (isEnough) process.exit(0);
        return;
      }
      if (ack === 'client-individual' || (ack === 'client' && (messages % 5 === 0 || isEnough))) {
        client.ack(message);
      }
      if (isEnough) client.disconnect();
    });
  });
  if (what === 'beats') {
    // It ends the session itself where a heart-beat is missing.
    let beats = 0;
    client.getTransportSocket().on('data', () => { beats += 1; });
    const send = () => {
      if (beats < 3) {
        setTimeout(send, 100);
        return;
      }
      const lines = fs.readFileSync(0, 'utf-8').trimEnd().split('\n');
      for (const line of lines) client.sendString({ destination: QUEUE }, line);
    };
    setTimeout(send, Number(seconds) * 1000);
  }
});
