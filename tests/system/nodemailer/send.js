// Sends what stands in the environment by one server, once for each port, and says what the server answered.
"use strict";

const nodemailer = require("nodemailer");

async function main() {
    for (const port of process.env.PORTS.split(",").map(Number)) {
        const transport = nodemailer.createTransport({
            host: "127.0.0.1",
            port,
            secure: port === Number(process.env.SECURE_PORT),
            requireTLS: true,
            auth: { user: process.env.LOGIN, pass: process.env.PASSWORD },
            tls: { rejectUnauthorized: false },
        });
        await transport.verify();
        const sent = await transport.sendMail({
            from: { name: "Änn", address: process.env.LOGIN },
            to: process.env.TO,
            bcc: process.env.BCC,
            subject: `Grüße by nodemailer ${port}`,
            text: "A line with ümlauts\n.and one with a dot\n",
            html: "<p>the same in HTML</p>",
            attachments: [{ filename: "zahlen.bin", content: Buffer.from([0, 13, 10, 46, 13, 10, 255]) }],
        });
        console.log(JSON.stringify({ port, accepted: sent.accepted, rejected: sent.rejected, response: sent.response }));
        transport.close();
    }
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
