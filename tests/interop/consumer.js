// Subscribes to QUEUE, writes each message's body into Graphite's socket, and acknowledges the message.
//
//   node consumer.js HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT
const net = require('net');
const stompit = require('stompit');

const [host, port, queue, login, passcode, graphiteHost, graphitePort] = process.argv.slice(2);
const fail = (error) => {
  console.error(error);
  process.exit(1);
};
const graphite = net.connect(Number(graphitePort), graphiteHost);
graphite.on('error', fail);
const connectHeaders = { host: '/', login, passcode, 'heart-beat': '10000,10000' };
stompit.connect({ host, port: Number(port), connectHeaders }, (error, client) => {
  if (error) fail(error);
  client.on('error', fail);
  client.subscribe({ destination: queue, ack: 'client-individual' }, (error, message) => {
    if (error) fail(error);
    message.readString('utf-8', (error, body) => {
      if (error) fail(error);
      graphite.write(`${body}\n`, () => client.ack(message));
    });
  });
});
