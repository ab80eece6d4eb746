// Where a client connects to. As place.rb, where the environment is explained.
const fs = require('fs');

module.exports = (host, port) => {
  const place = { host, port: Number(port) };
  const { STOMP_CA: ca, STOMP_CERT: cert, STOMP_KEY: key } = process.env;
  if (!ca) return place;
  const own = cert ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
  return { ...place, ssl: true, ca: fs.readFileSync(ca), ...own };
};
