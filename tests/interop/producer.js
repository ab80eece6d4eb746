// Sends each line of standard input to /queue/graphite.
//
//   node producer.js HOST PORT < LINES
const fs = require('fs');
const stompit = require('stompit');
const place = require('./place.js');

const [host, port] = process.argv.slice(2);
const fail = (error) => {
  console.error(error);
  process.exit(1);
};
stompit.connect({ ...place(host, port), connectHeaders: { host } }, (error, client) => {
  if (error) fail(error);
  client.on('error', fail);
  const lines = fs.readFileSync(0, 'utf-8').trimEnd().split('\n');
  for (const line of lines) client.sendString({ destination: '/queue/graphite' }, line);
  // It waits for the receipt.
  client.disconnect();
});
